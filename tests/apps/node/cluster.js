// Serves with two workers on the port of the second argument. The primary process accepts connections, and passes them on.
const cluster = require("node:cluster");
const http = require("node:http");

const WORKERS = 2;

if (cluster.isPrimary) {
  let listening = 0;
  cluster.on("listening", () => {
    listening += 1;
    if (listening === WORKERS) console.log("listening");
  });
  for (let worker = 0; worker < WORKERS; worker += 1) cluster.fork();
} else {
  http
    .createServer((request, response) => response.end("hello"))
    .listen(Number(process.argv[3]), "127.0.0.1");
}
