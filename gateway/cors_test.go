package gateway

import "testing"

// Origins that browsers send, and patterns of them, are taken; what can match none is refused.
func TestCheckOrigins(t *testing.T) {
	t.Parallel()
	for origin, taken := range map[string]bool{
		"*": true, "null": true, "https://app.example": true, "http://localhost:3000": true, "http://[::1]:3000": true,
		"https://App.example": true, "https://*.app.example": true, "*.app.example": true, "http://localhost:*": true,
		"chrome-extension://abcdef": true,
		"http://app.example:443":    true, "https://app.example:80": true, "https://app.example:4443": true,
		"https://app.example:443": false, "http://[::1]:80": false, "HTTPS://*.app.example:443": false,
		"https://:443": false, "foo": false, "app.example": false, "localhost:3000": false, "https://": false, "": false,
		"https://app.example/": false, "https://app.example/page": false, "https://app.example https://b.example": false,
	} {
		if err := checkOrigins([]string{origin}); (err == nil) != taken {
			t.Errorf("%q: got %v, want taken=%t", origin, err, taken)
		}
	}
}
