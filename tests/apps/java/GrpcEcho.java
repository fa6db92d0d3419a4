import io.grpc.MethodDescriptor;
import java.io.ByteArrayInputStream;
import java.io.IOException;
import java.io.InputStream;
import java.io.UncheckedIOException;

/** Messages of gRPC that are bytes, and the method that exchanges them. */
final class GrpcEcho implements MethodDescriptor.Marshaller<byte[]> {
    static final MethodDescriptor<byte[], byte[]> GET = method("shop.Cart/Get");

    static MethodDescriptor<byte[], byte[]> method(String name) {
        return MethodDescriptor.newBuilder(new GrpcEcho(), new GrpcEcho())
                .setType(MethodDescriptor.MethodType.UNARY)
                .setFullMethodName(name)
                .build();
    }

    @Override
    public InputStream stream(byte[] message) {
        return new ByteArrayInputStream(message);
    }

    @Override
    public byte[] parse(InputStream stream) {
        try {
            return stream.readAllBytes();
        } catch (IOException error) {
            throw new UncheckedIOException(error);
        }
    }
}
