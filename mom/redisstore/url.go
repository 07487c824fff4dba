package redisstore

import (
	"errors"
	"net/url"
	"slices"
	"strings"

	"github.com/redis/rueidis"
)

// What parseURL says of a URL that it cannot use. None of it quotes the URL: a password with a
// slash or a hash in it comes out as a host, a port or a path.
var (
	errScheme = errors.New("the URL must begin with redis://, rediss:// or unix://")
	errURL    = errors.New("the URL must look like redis://user:password@host:6379/0, rediss://host or unix:///path?db=0; " +
		"in a password, characters such as / ? # @ % must be percent-encoded")
)

// parseURL is rueidis.ParseURL, with several hosts by comma, and with errors that keep the
// password.
func parseURL(raw string) (rueidis.ClientOption, error) {
	scheme, _, found := strings.Cut(raw, "://")
	if !found || !slices.Contains([]string{"redis", "rediss", "valkey", "valkeys", "unix"}, scheme) {
		return rueidis.ClientOption{}, errScheme
	}
	u, err := url.Parse(raw)
	// A password that is not encoded would be taken for a host, and be found in a log.
	if err != nil || u.Fragment != "" || scheme != "unix" && strings.Contains(u.Path+u.RawQuery, "@") {
		return rueidis.ClientOption{}, errURL
	}
	if strings.Contains(u.Host, ",") {
		hosts, query := strings.Split(u.Host, ","), u.Query()
		u.Host, query["addr"] = hosts[0], hosts[1:]
		u.RawQuery = query.Encode()
	}
	option, err := rueidis.ParseURL(u.String())
	if err != nil {
		return option, errURL
	}
	return option, nil
}
