import io.grpc.HandlerRegistry;
import io.grpc.ServerMethodDefinition;
import io.grpc.netty.shaded.io.grpc.netty.NettyServerBuilder;
import io.grpc.stub.ServerCalls;
import java.net.InetSocketAddress;

/** A server of gRPC on Netty, which answers each unary call with its request. Arguments: port. */
public final class GrpcServer {
    /** Every method there is. */
    private static final class Every extends HandlerRegistry {
        @Override
        public ServerMethodDefinition<?, ?> lookupMethod(String name, String authority) {
            return ServerMethodDefinition.create(GrpcEcho.method(name), ServerCalls.asyncUnaryCall((request, response) -> {
                response.onNext(request);
                response.onCompleted();
            }));
        }
    }

    public static void main(String[] arguments) throws Exception {
        InetSocketAddress address = new InetSocketAddress("127.0.0.1", Integer.parseInt(arguments[0]));
        NettyServerBuilder.forAddress(address).fallbackHandlerRegistry(new Every()).build().start();
        System.out.println("listening");
        Thread.currentThread().join();
    }
}
