// A server of gRPC by Node's own http2, which answers each call with its request. Arguments: port.
const http2 = require('http2');

const server = http2.createServer();
server.on('stream', (stream) => {
  const chunks = [];
  stream.on('data', (chunk) => chunks.push(chunk));
  stream.on('end', () => {
    stream.respond({ ':status': 200, 'content-type': 'application/grpc' }, { waitForTrailers: true });
    stream.on('wantTrailers', () => stream.sendTrailers({ 'grpc-status': '0' }));
    stream.end(Buffer.concat(chunks));
  });
});
server.listen(Number(process.argv[2]), '127.0.0.1', () => console.log('listening'));
