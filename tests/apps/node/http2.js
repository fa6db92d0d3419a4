// A server of HTTP/2 in clear text that calls itself for /chain. Arguments: port.
const http2 = require('http2');

const port = Number(process.argv[2]);
let session;

// Sends a request on the one connection to the server itself, and calls `done` with its status.
function call(path, done) {
  session ??= http2.connect(`http://127.0.0.1:${port}`);
  const stream = session.request({ ':path': path });
  let status;
  stream.on('response', (headers) => { status = headers[':status']; });
  stream.on('error', () => {});
  stream.on('close', () => done(status));
  stream.resume();
}

const server = http2.createServer((request, response) => {
  if (request.url.startsWith('/chain')) {
    call(request.url.replace('chain', 'items'), (status) => response.end(`${status}`));
  } else if (request.url === '/reset') {
    response.stream.close(http2.constants.NGHTTP2_INTERNAL_ERROR);
  } else if (request.url === '/leave') {
    response.stream.session.goaway(http2.constants.NGHTTP2_NO_ERROR, response.stream.id);
    response.end('bye');
  } else if (request.url === '/slow' || request.url === '/never') {
    // The client gives up, or the server leaves.
  } else if (request.url === '/large') {
    response.end('x'.repeat(100000));
  } else {
    response.end('hello');
  }
});
server.listen(port, '127.0.0.1', () => console.log('listening'));
