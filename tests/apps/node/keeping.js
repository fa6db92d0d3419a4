// Makes requests one after another on one connection. Arguments: a URL without a path, and how many times it makes them. Before, it makes
// two requests on new connections until the second one arrives with a trace context: the agent has to know the program.

const http = require('http');

const [url, times] = process.argv.slice(2);
const own = { Traceparent: '00-0af7651916cd43dd8448eb211c80319c-b7ad6b7169203331-01' };
let agent = new http.Agent({ keepAlive: true, maxSockets: 1 });

function send(path, method, headers, parts) {
  return new Promise((resolve, reject) => {
    const request = http.request(url + path, { method, headers, agent }, (response) => {
      let received = '';
      response.on('data', (part) => (received += part));
      response.on('end', () => resolve(received));
    });
    request.on('error', reject);
    parts.forEach((part) => request.write(part));
    request.end();
  });
}

async function main() {
  const body = Buffer.from(Array.from({ length: 1 << 20 }, (_, index) => index & 255));
  for (let known = false, begun = Date.now(); !known && Date.now() - begun < 20000; ) {
    await send('/first', 'GET', {}, []);
    known = (await send('/second', 'GET', {}, [])).includes('traceparent');
    agent.destroy();
    agent = new http.Agent({ keepAlive: true, maxSockets: 1 });
  }
  for (let time = 0; time < times; time += 1) {
    await send('/get', 'GET', {}, []);
    await send('/post', 'POST', { 'Content-Length': body.length }, [body]);
    await send('/own', 'GET', own, []);
  }
  await send('/chunked', 'POST', {}, ['one', 'two'.repeat(1000), 'three']);
  await send('/after', 'GET', {}, []);
  agent.destroy();
}

main();
