import jakarta.servlet.Filter;
import jakarta.servlet.FilterChain;
import jakarta.servlet.ServletException;
import jakarta.servlet.ServletRequest;
import jakarta.servlet.ServletResponse;
import jakarta.servlet.http.HttpServletRequest;
import jakarta.servlet.http.HttpServletResponse;
import java.io.IOException;
import java.net.URI;
import java.net.http.HttpClient;
import java.net.http.HttpRequest;
import java.net.http.HttpResponse;
import java.util.LinkedHashMap;
import java.util.List;
import java.util.Map;
import java.util.concurrent.CompletableFuture;
import java.util.concurrent.ExecutionException;
import java.util.concurrent.TimeUnit;
import java.util.concurrent.TimeoutException;
import java.util.stream.Collectors;

/** Serves the requests that the gateway allows. */
public class RateLimitFilter implements Filter {
    private static final long TIMEOUT_MS = 250;

    /** Headers of the gateway's answer that are for the end user. */
    private static final List<String> HEADERS = List.of(
            "RateLimit-Policy", "RateLimit", "Retry-After",
            "X-RateLimit-Limit", "X-RateLimit-Remaining", "X-RateLimit-Reset");

    /** The client has one pool of connections. */
    private final HttpClient client =
            HttpClient.newBuilder().version(HttpClient.Version.HTTP_1_1).build();
    private final HttpRequest.Builder check;
    private final boolean failOpen;

    /**
     * @param apiKey the key of this application, or null if the gateway asks callers for no keys
     * @param failOpen while the gateway does not decide: true serves every request, and false
     *     answers 503
     */
    public RateLimitFilter(String gateway, String apiKey, boolean failOpen) {
        this.failOpen = failOpen;
        check = HttpRequest.newBuilder(URI.create(gateway + "/rate-limit/check"))
                .header("Content-Type", "application/json");
        if (apiKey != null) {
            check.header("X-API-Key", apiKey);
        }
    }

    /**
     * Returns the values by which policies match and identify a request: the address of the socket,
     * never X-Forwarded-For, the method and the path.
     */
    protected Map<String, String> attributes(HttpServletRequest request) {
        Map<String, String> attributes = new LinkedHashMap<>();
        // A link-local IPv6 address has the name of an interface after the percent sign.
        attributes.put("client.ip", request.getRemoteAddr().replaceFirst("%.*", ""));
        attributes.put("method", request.getMethod());
        attributes.put("path", request.getRequestURI());
        return attributes;
    }

    @Override
    public void doFilter(ServletRequest anyRequest, ServletResponse anyResponse, FilterChain chain)
            throws IOException, ServletException {
        HttpServletRequest request = (HttpServletRequest) anyRequest;
        HttpServletResponse response = (HttpServletResponse) anyResponse;
        int status;
        try {
            HttpResponse<String> answer = ask(attributes(request));
            status = status(answer);
            for (String name : HEADERS) {
                answer.headers().firstValue(name).ifPresent(value -> response.setHeader(name, value));
            }
        } catch (IOException error) {
            // The check is not sent again: the gateway may have counted it.
            request.getServletContext().log("the rate limit check failed: " + error);
            status = failOpen ? 200 : 503;
        }
        if (status == 200) {
            chain.doFilter(request, response);
            return;
        }
        if (status == 503) {
            response.setHeader("Retry-After", "1");
        }
        response.setStatus(status);
    }

    /** Returns the answer of the gateway, which must be there in time from its first to its last byte. */
    private HttpResponse<String> ask(Map<String, String> attributes) throws IOException {
        String body = attributes.entrySet().stream()
                .map(entry -> quote(entry.getKey()) + ":" + quote(entry.getValue()))
                .collect(Collectors.joining(",", "{\"attributes\":{", "}}"));
        HttpRequest request = check.copy().POST(HttpRequest.BodyPublishers.ofString(body)).build();
        CompletableFuture<HttpResponse<String>> answer =
                client.sendAsync(request, HttpResponse.BodyHandlers.ofString());
        try {
            return answer.get(TIMEOUT_MS, TimeUnit.MILLISECONDS);
        } catch (ExecutionException | TimeoutException error) {
            throw new IOException(error);
        } catch (InterruptedException error) {
            Thread.currentThread().interrupt();
            throw new IOException(error);
        } finally {
            answer.cancel(true);
        }
    }

    /**
     * Returns the status that stands for a decision: 200 to serve the request, 429 for a denial, and
     * 400 for a malformed path or address.
     */
    private static int status(HttpResponse<String> answer) throws IOException {
        int status = answer.statusCode();
        if (status == 400 || status == 413) {
            // The end user wrote these values, and must not escape the limit by them.
            return 400;
        }
        // The decision is the first member of the answer. An answer with status 429 can also be about
        // the limit of this application as a caller.
        if (status == 200 && answer.body().startsWith("{\"allowed\":true,")) {
            return 200;
        }
        if ((status == 200 || status == 429) && answer.body().startsWith("{\"allowed\":false,")) {
            return 429;
        }
        throw new IOException("the gateway answered with status " + status);
    }

    /** Returns a text as JSON. */
    private static String quote(String text) {
        StringBuilder json = new StringBuilder("\"");
        for (char c : text.toCharArray()) {
            if (c < ' ' || c == '"' || c == '\\') {
                json.append(String.format("\\u%04x", (int) c));
            } else {
                json.append(c);
            }
        }
        return json.append('"').toString();
    }
}
