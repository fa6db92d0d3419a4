// Both ends of TLS connections in one thread: one whose library uses sockets, one whose library works on memory.
//
// For each line of standard input, `socket` or `memory`, it exchanges requests and responses over that connection, and prints the
// nanoseconds of one call of SSL_write or SSL_read in the best window. Arguments: the certificate and its key.

#include <arpa/inet.h>
#include <netinet/tcp.h>
#include <openssl/ssl.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <time.h>
#include <unistd.h>

static const char REQUEST[] = "GET /products/7 HTTP/1.1\r\nHost: localhost\r\n\r\n";
static const char RESPONSE[] = "HTTP/1.1 200 OK\r\nContent-Length: 12\r\n\r\nhello, world";
// A window is short enough to fit between two interrupts.
enum { WINDOWS = 150, EXCHANGES_PER_WINDOW = 25, CALLS_PER_EXCHANGE = 4 };

struct end {
    SSL *ssl;
    int socket;
    // The library works on memory, and `deliver` and `fetch` move it.
    int memory;
};

static void must(int succeeded, const char *what) {
    if (!succeeded) {
        fprintf(stderr, "%s failed\n", what);
        exit(1);
    }
}

static void deliver(struct end *end) {
    char bytes[4096];
    if (!end->memory) return;
    int length;
    while ((length = BIO_read(SSL_get_wbio(end->ssl), bytes, sizeof bytes)) > 0)
        must(send(end->socket, bytes, length, 0) == length, "send");
}

// Does nothing if there is nothing to receive.
static void fetch(struct end *end, int flags) {
    char bytes[4096];
    if (!end->memory) return;
    long length = recv(end->socket, bytes, sizeof bytes, flags);
    if (length > 0) must(BIO_write(SSL_get_rbio(end->ssl), bytes, length) == length, "BIO_write");
}

static void pass(struct end *from, struct end *to, const char *message, int length) {
    char bytes[256];
    must(SSL_write(from->ssl, message, length) == length, "SSL_write");
    deliver(from);
    fetch(to, 0);
    must(SSL_read(to->ssl, bytes, sizeof bytes) == length, "SSL_read");
}

static double best(struct end *client, struct end *server) {
    double least = 1e18;
    for (int window = 0; window < WINDOWS; window++) {
        struct timespec start, end;
        clock_gettime(CLOCK_MONOTONIC, &start);
        for (int exchange = 0; exchange < EXCHANGES_PER_WINDOW; exchange++) {
            pass(client, server, REQUEST, sizeof REQUEST - 1);
            pass(server, client, RESPONSE, sizeof RESPONSE - 1);
        }
        clock_gettime(CLOCK_MONOTONIC, &end);
        double took = (end.tv_sec - start.tv_sec) * 1e9 + (end.tv_nsec - start.tv_nsec);
        double call = took / (EXCHANGES_PER_WINDOW * CALLS_PER_EXCHANGE);
        if (call < least) least = call;
    }
    return least;
}

static void connect_ends(struct end *client, struct end *server) {
    struct sockaddr_in address = {.sin_family = AF_INET, .sin_addr.s_addr = htonl(INADDR_LOOPBACK)};
    socklen_t length = sizeof address;
    int one = 1, listener = socket(AF_INET, SOCK_STREAM, 0);
    must(bind(listener, (struct sockaddr *)&address, length) == 0 && listen(listener, 1) == 0, "listen");
    must(getsockname(listener, (struct sockaddr *)&address, &length) == 0, "getsockname");
    client->socket = socket(AF_INET, SOCK_STREAM, 0);
    must(connect(client->socket, (struct sockaddr *)&address, length) == 0, "connect");
    server->socket = accept(listener, NULL, NULL);
    must(server->socket >= 0, "accept");
    close(listener);
    setsockopt(client->socket, IPPROTO_TCP, TCP_NODELAY, &one, sizeof one);
    setsockopt(server->socket, IPPROTO_TCP, TCP_NODELAY, &one, sizeof one);
}

static void begin(struct end *end, SSL_CTX *context, int memory) {
    end->ssl = SSL_new(context);
    end->memory = memory;
    if (memory)
        SSL_set_bio(end->ssl, BIO_new(BIO_s_mem()), BIO_new(BIO_s_mem()));
    else
        SSL_set_fd(end->ssl, end->socket);
}

// A socket would block while the other end has not answered.
static void handshake(struct end *client, struct end *server) {
    struct timeval soon = {.tv_usec = 2000}, never = {0};
    struct end *ends[] = {client, server};
    for (int i = 0; i < 2; i++) setsockopt(ends[i]->socket, SOL_SOCKET, SO_RCVTIMEO, &soon, sizeof soon);
    SSL_set_connect_state(client->ssl);
    SSL_set_accept_state(server->ssl);
    while (!SSL_is_init_finished(client->ssl) || !SSL_is_init_finished(server->ssl)) {
        for (int i = 0; i < 2; i++) {
            SSL_do_handshake(ends[i]->ssl);
            deliver(ends[i]);
            fetch(ends[1 - i], MSG_DONTWAIT);
        }
    }
    for (int i = 0; i < 2; i++) setsockopt(ends[i]->socket, SOL_SOCKET, SO_RCVTIMEO, &never, sizeof never);
}

int main(int count, char **arguments) {
    must(count == 3, "the command line");
    SSL_CTX *client_context = SSL_CTX_new(TLS_client_method()), *server_context = SSL_CTX_new(TLS_server_method());
    SSL_CTX_set_num_tickets(server_context, 0);
    must(SSL_CTX_use_certificate_file(server_context, arguments[1], SSL_FILETYPE_PEM) == 1, "the certificate");
    must(SSL_CTX_use_PrivateKey_file(server_context, arguments[2], SSL_FILETYPE_PEM) == 1, "the key");
    struct end clients[2], servers[2];
    for (int memory = 0; memory < 2; memory++) {
        connect_ends(&clients[memory], &servers[memory]);
        begin(&clients[memory], client_context, memory);
        begin(&servers[memory], server_context, memory);
        handshake(&clients[memory], &servers[memory]);
    }
    puts("listening");
    fflush(stdout);
    char line[32];
    while (fgets(line, sizeof line, stdin)) {
        int memory = strcmp(line, "memory\n") == 0;
        printf("%f\n", best(&clients[memory], &servers[memory]));
        fflush(stdout);
    }
}
