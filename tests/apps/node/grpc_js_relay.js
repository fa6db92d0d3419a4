// A gRPC service by grpc-js that makes a call of `ITS.SERVICE.J` for each call of `ITS.SERVICE`, over one connection. Arguments: port.
const grpc = require('@grpc/grpc-js');

const bytes = (message) => message;
const client = new grpc.Client(process.env.BACKEND, grpc.credentials.createInsecure());

// grpc-js asks this object for the handler of each path.
const handlers = {
  get(path) {
    const below = path.replace(/\/([^/]*)$/, '.J/$1');
    const func = (call, answer) => client.makeUnaryRequest(below, bytes, bytes, call.request, answer);
    return { func, serialize: bytes, deserialize: bytes, type: 'unary', path };
  },
};
const server = new grpc.Server();
server.handlers = handlers;
server.bindAsync(`127.0.0.1:${process.argv[2]}`, grpc.ServerCredentials.createInsecure(), (error) => {
  if (error) throw error;
  console.log('listening');
});
