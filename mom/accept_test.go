package mom

import "testing"

// An answer is read as JSON, unless its reader asks for proto.
func TestPrefersProto(t *testing.T) {
	t.Parallel()
	for accept, want := range map[string]bool{
		"":                                      false,
		"*/*":                                   false,
		"application/json":                      false,
		"application/proto":                     true,
		"Application/X-Protobuf;q=0.5, */*;q=0": true,
		"application/proto, application/json":   true,
		"application/proto;q=0.1, application/json;q=0.9": false,
		"application/proto;q=0, */*":                      false,
		"text/application/protocol-x":                     false,
		"application/proto;q=much":                        false,
	} {
		if got := prefersProto([]string{accept}); got != want {
			t.Errorf("%q: got %t, want %t", accept, got, want)
		}
	}
}
