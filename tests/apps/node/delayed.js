// Answers each request after a random delay, so that responses overtake each other. Logs the path of each request. Speaks HTTP/2
// if the variable HTTP2 is set.

const http = require(process.env.HTTP2 ? 'http2' : 'http');

const MAX_DELAY_MS = 20;

const server = http.createServer((request, response) => {
  console.log(`received ${request.url}`);
  setTimeout(() => {
    response.setHeader('Content-Type', 'text/plain');
    response.end(`${request.url}\n`);
  }, Math.random() * MAX_DELAY_MS);
});
// Longer than any client keeps a connection.
server.keepAliveTimeout = 60_000;
server.listen(Number(process.argv[2]), '127.0.0.1', () => console.log('listening'));
