package redisstore

import (
	"cmp"
	"errors"
	"net"
	"net/url"
	"slices"
	"strings"
	"time"

	"github.com/redis/rueidis"
)

func clientOption(cfg Config) (rueidis.ClientOption, error) {
	option, err := parseURL(cfg.URL)
	if err != nil {
		return option, err
	}
	option.Password = cmp.Or(cfg.Password, option.Password)
	option.Sentinel.MasterSet = cmp.Or(cfg.SentinelMaster, option.Sentinel.MasterSet)
	sentinel := option.Sentinel.MasterSet != ""
	option.ForceSingleClient = !cfg.Cluster && !sentinel
	if err := setPassword(&option, cfg.ReadPassword, sentinel); err != nil {
		return option, err
	}
	switch {
	case cfg.Cluster && sentinel:
		return option, errors.New("a Redis Cluster has no Sentinels: name one of the two")
	case option.ForceSingleClient && len(option.InitAddress) > 1:
		return option, errors.New("the URL names several hosts: say whether they are a Redis Cluster or Sentinels")
	}
	option.DisableCache = true
	// rueidis would retry a read until its deadline, and a write never. We let it retry neither:
	// the caller decides in its own loop.
	option.DisableRetry = true
	// The default, half a megabyte each way per connection, is meant for large pipelines.
	option.ReadBufferEachConn = 64 << 10
	option.WriteBufferEachConn = 64 << 10
	option.RingScaleEachConn = ringScale
	option.PipelineMultiplex = multiplex
	option.Dialer.Timeout = cfg.DialTimeout
	// rueidis pings at this interval, so that conn finds a silent server also when there are no
	// commands. The kernel finds a host that is gone, by the probes that are set below.
	option.Dialer.KeepAlive = 5 * time.Second
	option.Dialer.KeepAliveConfig = net.KeepAliveConfig{Enable: true, Idle: time.Second, Interval: time.Second, Count: 5}
	option.ConnWriteTimeout = max(time.Second, cfg.CommandTimeout)
	// All commands go through the pipeline. Otherwise rueidis would send a lone one outside of
	// it, and close the connection when the command's time is up.
	option.AlwaysPipelining = true
	option.Sentinel.Dialer = option.Dialer
	// To notice a failover even if no sentinel has reported it to us.
	option.Sentinel.TopologyRefreshInterval = 5 * time.Second
	if sentinel && option.TLSConfig != nil {
		option.TLSConfig.ServerName = "" // each host has its own name, not that of the first sentinel
		option.Sentinel.TLSConfig = option.TLSConfig
	}
	return option, nil
}

func setPassword(option *rueidis.ClientOption, read func() (string, error), sentinel bool) error {
	switch {
	case read == nil:
	case sentinel:
		password, err := read()
		option.Password = cmp.Or(password, option.Password)
		return err
	default:
		username, before := option.Username, option.Password
		option.AuthCredentialsFn = func(rueidis.AuthCredentialsContext) (rueidis.AuthCredentials, error) {
			password, err := read()
			if err != nil {
				return rueidis.AuthCredentials{}, &greetingError{err.Error()}
			}
			return rueidis.AuthCredentials{Username: username, Password: cmp.Or(password, before)}, nil
		}
	}
	return nil
}

// Errors of parseURL. They never quote the URL: if a password has a slash or a hash in it, parts
// of it are parsed as a host, a port or a path.
var (
	errScheme = errors.New("the URL must begin with redis://, rediss:// or unix://")
	errURL    = errors.New("the URL must look like redis://user:password@host:6379/0, rediss://host or unix:///path?db=0; " +
		"in a password, characters such as / ? # @ % must be percent-encoded")
)

// parseURL is rueidis.ParseURL, but takes several hosts, separated by commas, and its errors do
// not show the password.
func parseURL(raw string) (rueidis.ClientOption, error) {
	scheme, _, found := strings.Cut(raw, "://")
	if !found || !slices.Contains([]string{"redis", "rediss", "valkey", "valkeys", "unix"}, scheme) {
		return rueidis.ClientOption{}, errScheme
	}
	u, err := url.Parse(raw)
	// Part of a password that is not encoded would be taken for a host, and then stand in a log.
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
