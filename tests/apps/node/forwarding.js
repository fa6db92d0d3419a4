// A proxy that forwards the received trace context unchanged, over fewer connections than there are requests in flight.

const http = require('http');

const agent = new http.Agent({ keepAlive: true, maxSockets: 10 });

const server = http.createServer((request, response) => {
  const headers = { traceparent: request.headers.traceparent };
  http.get(process.env.BACKEND_URL + request.url, { agent, headers }, (backendResponse) => {
    response.writeHead(backendResponse.statusCode, { 'Content-Type': 'text/plain' });
    backendResponse.pipe(response);
  }).on('error', (error) => {
    response.statusCode = 502;
    response.end(`${error}\n`);
  });
});
server.keepAliveTimeout = 60_000;
server.listen(Number(process.argv[2]), '127.0.0.1', () => console.log('listening'));
