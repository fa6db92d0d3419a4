// Serves HTTPS. The response has the path and the client's port. Arguments: port, folder of the certificate.
const fs = require("fs");
const https = require("https");

const [port, folder] = process.argv.slice(2);
const options = { key: fs.readFileSync(`${folder}/key.pem`), cert: fs.readFileSync(`${folder}/cert.pem`) };
https
  .createServer(options, (request, response) => response.end(`${request.url} ${request.socket.remotePort}`))
  .listen(Number(port), "127.0.0.1", () => console.log("listening"));
