// Answers every request, each after a while of its own: answers overtake each other. Says what it was asked for.

const http = require('http');

const LONGEST_MS = 20;

const server = http.createServer((request, response) => {
  console.log(`asked ${request.url}`);
  setTimeout(() => {
    response.setHeader('Content-Type', 'text/plain');
    response.end(`${request.url}\n`);
  }, Math.random() * LONGEST_MS);
});
// Never before its clients do.
server.keepAliveTimeout = 60_000;
server.listen(Number(process.argv[2]), '127.0.0.1', () => console.log('listening'));
