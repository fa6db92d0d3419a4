// A server of gRPC by grpc-js, which answers each call of `shop.Cart/Get` with its request. Arguments: port.
const grpc = require('@grpc/grpc-js');

const bytes = (message) => message;
const get = {
  path: '/shop.Cart/Get',
  requestStream: false,
  responseStream: false,
  requestSerialize: bytes,
  requestDeserialize: bytes,
  responseSerialize: bytes,
  responseDeserialize: bytes,
};
const server = new grpc.Server();
server.addService({ get }, { get: (call, answer) => answer(null, call.request) });
server.bindAsync(`127.0.0.1:${process.argv[2]}`, grpc.ServerCredentials.createInsecure(), (error) => {
  if (error) throw error;
  console.log('listening');
});
