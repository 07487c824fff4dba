package redistest_test

import (
	"context"
	"testing"

	"github.com/redis/rueidis"

	"holdline/internal/redistest"
)

func TestMain(m *testing.M) { redistest.Main(m, nil) }

func client(t *testing.T, url string, mini bool) rueidis.Client {
	t.Helper()
	option, err := rueidis.ParseURL(url)
	if err != nil {
		t.Fatal(err)
	}
	option.DisableCache, option.ForceSingleClient, option.AlwaysRESP2 = true, true, mini
	c, err := rueidis.NewClient(option)
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(c.Close)
	return c
}

func TestStartIsShared(t *testing.T) {
	t.Parallel()
	if a, b := redistest.Start(t), redistest.Start(t); a != b {
		t.Errorf("two servers: %s and %s", a, b)
	}
	c := client(t, redistest.Start(t), false)
	if err := c.Do(context.Background(), c.B().Ping().Build()).Error(); err != nil {
		t.Error(err)
	}
}

func TestMiniIsOneEach(t *testing.T) {
	t.Parallel()
	a, b := client(t, redistest.Mini(t), true), client(t, redistest.Mini(t), true)
	ctx := context.Background()
	if err := a.Do(ctx, a.B().Set().Key("k").Value("v").Build()).Error(); err != nil {
		t.Fatal(err)
	}
	if n, err := b.Do(ctx, b.B().Exists().Key("k").Build()).AsInt64(); n != 0 || err != nil {
		t.Errorf("EXISTS in the other one: got %d, %v, want 0", n, err)
	}
}

// What was written before a crash is there after it.
func TestKillAndRestart(t *testing.T) {
	t.Parallel()
	server, ctx := redistest.New(t, "--maxmemory", "50mb"), context.Background()
	c := client(t, server.URL(), false)
	if err := c.Do(ctx, c.B().Set().Key("k").Value("v").Build()).Error(); err != nil {
		t.Fatal(err)
	}
	server.Kill(t)
	server.Restart(t)
	c = client(t, server.URL(), false)
	if got, err := c.Do(ctx, c.B().Get().Key("k").Build()).ToString(); got != "v" || err != nil {
		t.Errorf("after a crash: got %q, %v, want v", got, err)
	}
	limit, err := c.Do(ctx, c.B().ConfigGet().Parameter("maxmemory").Build()).AsStrMap()
	if limit["maxmemory"] != "52428800" || err != nil {
		t.Errorf("maxmemory: got %v, %v, want 52428800", limit, err)
	}
}
