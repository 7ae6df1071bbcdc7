import jakarta.servlet.http.HttpServlet;
import jakarta.servlet.http.HttpServletRequest;
import jakarta.servlet.http.HttpServletResponse;
import java.io.IOException;
import java.nio.file.Files;
import java.util.Map;
import org.apache.catalina.Context;
import org.apache.catalina.startup.Tomcat;
import org.apache.tomcat.util.descriptor.web.FilterDef;
import org.apache.tomcat.util.descriptor.web.FilterMap;

/** A servlet in Tomcat whose requests are limited by the policies of a gateway. */
public class Main {
    public static void main(String[] arguments) throws Exception {
        // While the gateway does not decide: true serves every request, and false answers 503.
        Boolean failOpen = Map.of("true", true, "false", false).get(setting("FAIL_OPEN", ""));
        if (failOpen == null) {
            throw new IllegalArgumentException("set FAIL_OPEN to true or false");
        }
        String gateway = setting("RATELIMIT_URL", "http://localhost:8000");

        Tomcat tomcat = new Tomcat();
        tomcat.setBaseDir(Files.createTempDirectory("tomcat").toString());
        tomcat.setPort(Integer.parseInt(setting("PORT", "3000")));
        tomcat.getConnector().setProperty("address", "127.0.0.1");
        Context context = tomcat.addContext("", null);
        limit(context, new RateLimitFilter(gateway, System.getenv("RATELIMIT_API_KEY"), failOpen));
        Tomcat.addServlet(context, "home", new Home()).addMapping("/");
        tomcat.start();
        tomcat.getServer().await();
    }

    private static void limit(Context context, RateLimitFilter filter) {
        FilterDef definition = new FilterDef();
        definition.setFilterName("rate-limit");
        definition.setFilter(filter);
        definition.setAsyncSupported("true");
        context.addFilterDef(definition);
        FilterMap map = new FilterMap();
        map.setFilterName("rate-limit");
        map.addURLPattern("/*");
        context.addFilterMap(map);
    }

    private static String setting(String name, String other) {
        return System.getenv().getOrDefault(name, other);
    }

    private static class Home extends HttpServlet {
        @Override
        protected void doGet(HttpServletRequest request, HttpServletResponse response)
                throws IOException {
            response.setContentType("application/json");
            response.getWriter().write("{\"hello\":\"world\"}");
        }
    }
}
