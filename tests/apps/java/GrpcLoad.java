import io.grpc.CallOptions;
import io.grpc.ManagedChannel;
import io.grpc.netty.shaded.io.grpc.netty.NettyChannelBuilder;
import io.grpc.stub.ClientCalls;
import java.net.InetSocketAddress;
import java.net.URI;
import java.util.ArrayList;
import java.util.List;
import java.util.concurrent.Callable;
import java.util.concurrent.ExecutorService;
import java.util.concurrent.Executors;
import java.util.concurrent.Future;
import java.util.concurrent.atomic.AtomicInteger;

/**
 * Makes unary calls of shop.Cart/Get by grpc-java on Netty. Arguments: URL, how many, how many at once, over how many connections. Prints
 * how many nanoseconds each took.
 */
public final class GrpcLoad {
    public static void main(String[] arguments) throws Exception {
        URI url = URI.create(arguments[0]);
        int requests = Integer.parseInt(arguments[1]);
        int streams = Integer.parseInt(arguments[2]);
        int connections = Integer.parseInt(arguments[3]);
        AtomicInteger next = new AtomicInteger();
        List<Callable<List<Long>>> workers = new ArrayList<>();
        for (int connection = 0; connection < connections; connection++) {
            InetSocketAddress address = new InetSocketAddress(url.getHost(), url.getPort());
            ManagedChannel channel = NettyChannelBuilder.forAddress(address).usePlaintext().build();
            for (int stream = 0; stream < streams / connections; stream++) {
                workers.add(() -> {
                    List<Long> took = new ArrayList<>();
                    for (int number; (number = next.getAndIncrement()) < requests; ) {
                        long begin = System.nanoTime();
                        ClientCalls.blockingUnaryCall(channel, GrpcEcho.GET, CallOptions.DEFAULT, ("" + number).getBytes());
                        took.add(System.nanoTime() - begin);
                    }
                    return took;
                });
            }
        }
        ExecutorService threads = Executors.newFixedThreadPool(streams);
        for (Future<List<Long>> worker : threads.invokeAll(workers)) {
            worker.get().forEach(System.out::println);
        }
        System.exit(0);
    }
}
