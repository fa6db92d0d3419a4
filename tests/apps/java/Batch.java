import java.sql.DriverManager;
import java.sql.SQLException;

/** Inserts rows in one JDBC batch: Batch.java COUNT URL. */
public class Batch {
    public static void main(String[] arguments) throws SQLException {
        var count = Integer.parseInt(arguments[0]);
        try (var connection = DriverManager.getConnection(arguments[1])) {
            try (var statement = connection.createStatement()) {
                statement.execute("CREATE TABLE numbers (number integer, name text)");
            }
            try (var insert = connection.prepareStatement("INSERT INTO numbers VALUES (?, ?)")) {
                for (var number = 0; number < count; number++) {
                    insert.setInt(1, number);
                    insert.setString(2, "name " + number);
                    insert.addBatch();
                }
                insert.executeBatch();
            }
        }
    }
}
