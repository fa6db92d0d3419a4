CREATE TABLE products (id integer PRIMARY KEY, name text NOT NULL, pieces integer NOT NULL);
INSERT INTO products VALUES (7, 'teapot', 12), (8, 'cup', 0), (9, 'saucer', 40);
