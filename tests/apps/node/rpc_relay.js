// A gRPC service that makes a call of `ITS.SERVICE.N` for each call of `ITS.SERVICE`, over one connection. Arguments: port.
const http2 = require('http2');

const session = http2.connect(process.env.BACKEND_URL);

// Sends `message`, which has its prefix, and calls `done` with the answer and the status.
function call(path, message, done) {
  const headers = { ':method': 'POST', ':path': path, 'content-type': 'application/grpc', te: 'trailers' };
  const stream = session.request(headers);
  const chunks = [];
  let status = '2';
  stream.on('data', (chunk) => chunks.push(chunk));
  stream.on('trailers', (trailers) => { status = trailers['grpc-status']; });
  stream.on('end', () => done(Buffer.concat(chunks), status));
  stream.end(message);
}

const server = http2.createServer();
server.on('stream', (stream, headers) => {
  const chunks = [];
  stream.on('data', (chunk) => chunks.push(chunk));
  stream.on('end', () => {
    const path = headers[':path'].replace(/\/([^/]*)$/, '.N/$1');
    call(path, Buffer.concat(chunks), (answer, status) => {
      stream.respond({ ':status': 200, 'content-type': 'application/grpc' }, { waitForTrailers: true });
      stream.on('wantTrailers', () => stream.sendTrailers({ 'grpc-status': status }));
      stream.end(answer);
    });
  });
});
server.listen(Number(process.argv[2]), '127.0.0.1', () => console.log('listening'));
