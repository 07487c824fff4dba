package e2e

import (
	"net/http"
	"net/http/httptest"
	"net/http/httputil"
	"net/url"
	"testing"

	"github.com/getkin/kin-openapi/openapi3"

	gatewayv1 "holdline/gen/gateway/v1"
	"holdline/gen/gateway/v1/gatewayv1connect"
	"holdline/internal/freeport"
	"holdline/internal/stack"
)

// The document is valid OpenAPI, and has each unary method of each service that is
// routed with a schema, and nothing else that could be called.
func TestOpenAPI(t *testing.T) {
	t.Parallel()
	s := up(t, stack.Config{
		Schemas: []string{ledgerImage(t)},
		Routes:  []string{ledgerService + "=http://" + freeport.Addr(t), "nobody.v1.KnowsService=http://" + freeport.Addr(t)},
	})
	res, raw := get(t, s.Gateway, "/openapi.yaml")
	if res.StatusCode != http.StatusOK || res.Header.Get("Content-Type") != "application/yaml" {
		t.Fatalf("got %s, %s", res.Status, res.Header.Get("Content-Type"))
	}
	document, err := openapi3.NewLoader().LoadFromData([]byte(raw))
	if err != nil {
		t.Fatal(err)
	}
	if err := document.Validate(t.Context(), openapi3.EnableExamplesValidation()); err != nil {
		t.Errorf("not valid: %v", err)
	}

	list, err := gatewayv1connect.NewDirectoryServiceClient(wires()[0].client(t, s.Gateway)).ListServices(t.Context(), &gatewayv1.ListServicesRequest{})
	if err != nil {
		t.Fatal(err)
	}
	want := map[string]bool{
		gatewayv1connect.DirectoryServiceListServicesProcedure: true,
		"/v1/tasks/{id}": true, "/v1/tasks/{id}/answer": true,
	}
	for _, service := range list.GetServices() {
		for _, method := range service.GetMethods() {
			if method.GetKind() == gatewayv1.MethodKind_METHOD_KIND_UNARY {
				want["/"+service.GetName()+"/"+method.GetName()] = true
			}
		}
	}
	for path := range want {
		if document.Paths.Value(path) == nil {
			t.Errorf("%s is missing", path)
		}
	}
	for path := range document.Paths.Map() {
		if !want[path] {
			t.Errorf("%s is described, and nobody has it", path)
		}
	}
}

// tryDocs opens /docs beside itself, as a page of the same origin may, and tries
// Sum as a person would. It returns the answer, what the page was not allowed to
// do, what it asked other hosts for, by how much it is wider than a phone, and
// whether it is dark.
const tryDocs = `
const until = async (look) => {
  for (;;) {
    const found = look();
    if (found) return found;
    await new Promise((resolve) => setTimeout(resolve, 20));
  }
};
const frame = document.body.appendChild(document.createElement("iframe"));
frame.src = "/docs";
const page = await until(() => frame.contentDocument?.URL.endsWith("/docs") && frame.contentDocument);
const refused = [];
page.addEventListener("securitypolicyviolation", (e) => refused.push(e.violatedDirective + " " + e.blockedURI));

const paths = (await (await fetch("/openapi.yaml")).text()).match(/^  \/.*(?=:$)/gm).map((line) => line.trim());
const shown = (path) => page.querySelector('[data-path="' + path + '"]');
await until(() => paths.every(shown));

const sum = page.querySelector('.opblock-post:has([data-path="/arithmetic.v1.SumService/Sum"])');
sum.querySelector(".opblock-summary-control").click();
await until(() => sum.querySelector("textarea")?.value); // what is executed before that is an empty request
sum.querySelector("button.execute").click();
const answer = await until(() => sum.querySelector(".live-responses-table .response-col_description .highlight-code code"));

const foreign = frame.contentWindow.performance.getEntriesByType("resource").map((e) => e.name)
  .filter((name) => !name.startsWith(location.origin + "/") && !name.startsWith("data:"));
frame.style.width = "390px";
await until(() => page.documentElement.clientWidth <= 390);
const beyond = page.documentElement.scrollWidth - page.documentElement.clientWidth;
const dark = getComputedStyle(page.documentElement).filter.includes("invert");
return JSON.stringify({answer: JSON.parse(answer.textContent).result, refused, foreign, beyond, dark});
`

// A person opens /docs, finds every method, and tries one; behind TLS too, on a phone,
// and in the dark.
func TestDocsPage(t *testing.T) {
	t.Parallel()
	needBrowser(t)
	for name, c := range map[string]struct {
		front func(http.Handler) *httptest.Server
		flags []string // of the browser
		dark  string
	}{
		"plain": {httptest.NewServer, nil, "false"},
		"tls":   {httptest.NewTLSServer, nil, "false"},
		"dark":  {httptest.NewServer, []string{"--blink-settings=preferredColorScheme=0"}, "true"},
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			page, result := scripted(tryDocs)
			driver := httptest.NewServer(page)
			defer driver.Close()
			// The driver is of the gateway's origin, since the gateway routes it.
			s := up(t, stack.Config{Routes: []string{"page.v1.Driver=" + driver.URL}})
			proxy := httputil.NewSingleHostReverseProxy(&url.URL{Scheme: "http", Host: s.Gateway})
			proxy.Transport = plain.Transport
			outside := c.front(proxy)
			defer outside.Close()
			got := visit(t, outside.URL+"/page.v1.Driver/Open", result, c.flags...)
			if want := `{"answer":3,"refused":[],"foreign":[],"beyond":0,"dark":` + c.dark + `}`; got != want {
				t.Errorf("the page got %s, want %s", got, want)
			}
		})
	}
}
