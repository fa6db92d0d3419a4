// Answers requests for its metrics after 2 ms, and polls 50 targets in the background, each over a new connection.

const http = require('http');

function poll(target) {
  http.get(`${process.env.BACKEND_URL}/target-${target}`, { agent: false }, (response) => {
    response.resume();
    response.on('end', () => setTimeout(poll, 200, target));
  });
}

const server = http.createServer((request, response) => {
  setTimeout(() => response.end('up 1\n'), 2);
});
server.keepAliveTimeout = 60_000;
server.listen(Number(process.argv[2]), '127.0.0.1', () => {
  for (let target = 0; target < 50; target++) poll(target);
  console.log('listening');
});
