// A proxy that passes on the trace context it is given, unchanged, over fewer connections than there are requests in flight.

const http = require('http');

const agent = new http.Agent({ keepAlive: true, maxSockets: 10 });

const server = http.createServer((request, response) => {
  const headers = { traceparent: request.headers.traceparent };
  http.get(process.env.ELSEWHERE_URL + request.url, { agent, headers }, (answer) => {
    response.writeHead(answer.statusCode, { 'Content-Type': 'text/plain' });
    answer.pipe(response);
  }).on('error', (error) => {
    response.statusCode = 502;
    response.end(`${error}\n`);
  });
});
server.keepAliveTimeout = 60_000;
server.listen(Number(process.argv[2]), '127.0.0.1', () => console.log('listening'));
