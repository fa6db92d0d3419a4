/* Answers HTTP/1.1 requests over TLS, with a thread for each connection: PORT CERTIFICATE KEY. */
#include <arpa/inet.h>
#include <openssl/ssl.h>
#include <pthread.h>
#include <signal.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

static SSL_CTX *context;

static void *serve(void *argument)
{
	static const char head[] = "HTTP/1.1 200 OK\r\nContent-Length: ";
	int descriptor = (int)(long)argument;
	SSL *ssl = SSL_new(context);
	char request[16384], answer[64];
	size_t have = 0;

	SSL_set_fd(ssl, descriptor);
	int open = SSL_accept(ssl) == 1;

	while (open && have < sizeof request - 1) {
		int count = SSL_read(ssl, request + have, sizeof request - 1 - have);

		if (count <= 0)
			break;
		have += count;
		request[have] = 0;
		if (!strstr(request, "\r\n\r\n"))
			continue;
		const char *size = strstr(request, "size=");
		size_t length = size ? strtoul(size + 5, NULL, 10) : 0;
		char *body = calloc(1, length + 1);

		/* Both forms of the function. */
		snprintf(answer, sizeof answer, "%s%zu\r\n\r\n", head, length);
		SSL_write(ssl, answer, strlen(answer));
		if (length > 0)
			SSL_write_ex(ssl, body, length, &length);
		free(body);
		have = 0;
	}
	SSL_free(ssl);
	close(descriptor);
	return NULL;
}

int main(int count, char **arguments)
{
	struct sockaddr_in address = { .sin_family = AF_INET, .sin_addr.s_addr = htonl(INADDR_LOOPBACK) };
	int listener = socket(AF_INET, SOCK_STREAM, 0), one = 1;

	if (count != 4)
		return 2;
	signal(SIGPIPE, SIG_IGN);
	context = SSL_CTX_new(TLS_server_method());
	if (SSL_CTX_use_certificate_chain_file(context, arguments[2]) != 1 ||
	    SSL_CTX_use_PrivateKey_file(context, arguments[3], SSL_FILETYPE_PEM) != 1)
		return 3;
	address.sin_port = htons(atoi(arguments[1]));
	setsockopt(listener, SOL_SOCKET, SO_REUSEADDR, &one, sizeof one);
	if (bind(listener, (struct sockaddr *)&address, sizeof address) || listen(listener, 128))
		return 4;
	for (;;) {
		long descriptor = accept(listener, NULL, NULL);
		pthread_t thread;

		if (descriptor < 0 || pthread_create(&thread, NULL, serve, (void *)descriptor))
			return 5;
		pthread_detach(thread);
	}
}
