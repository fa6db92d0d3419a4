// Sends requests over one connection of HTTP/2, all at once. Arguments: URL, then paths. `/slow` is cancelled. Ends when all have ended.
const http2 = require('http2');

const [, , url, ...paths] = process.argv;
const session = http2.connect(url);
let left = paths.length;

for (const path of paths) {
  const stream = session.request({ ':path': path });
  stream.on('error', () => {});
  stream.on('close', () => {
    left -= 1;
    if (left === 0) {
      // Both ends have the reset by then.
      setTimeout(() => process.exit(), 100);
    }
  });
  stream.resume();
  if (path === '/slow') {
    setTimeout(() => stream.close(http2.constants.NGHTTP2_CANCEL), 100);
  }
}
