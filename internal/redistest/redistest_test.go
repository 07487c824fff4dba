package redistest_test

import (
	"context"
	"testing"
	"time"

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

// A key that was written before a crash is there after it.
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

// The test sets the clock of a server, and keys expire by that clock.
func TestClock(t *testing.T) {
	t.Parallel()
	start := time.Date(2030, 1, 2, 3, 4, 5, 678e6, time.UTC)
	test := func(t *testing.T, url string, mini bool, clock *redistest.Clock) {
		t.Helper()
		c, ctx := client(t, url, mini), context.Background()
		if err := c.Do(ctx, c.B().Set().Key("k").Value("v").PxMilliseconds(1000).Build()).Error(); err != nil {
			t.Fatal(err)
		}
		for _, passed := range []time.Duration{0, 999 * time.Millisecond, 1001 * time.Millisecond} {
			clock.Set(t, start.Add(passed))
			got, err := c.Do(ctx, c.B().Time().Build()).AsIntSlice()
			if want := start.Add(passed); err != nil || !time.Unix(got[0], got[1]*1000).Equal(want) {
				t.Errorf("TIME after %v: got %v, %v, want %v", passed, got, err, want)
			}
			n, err := c.Do(ctx, c.B().Exists().Key("k").Build()).AsInt64()
			if want := passed < time.Second; err != nil || (n == 1) != want {
				t.Errorf("the key after %v: got %d, %v, want %v", passed, n, err, want)
			}
		}
	}
	t.Run("redis", func(t *testing.T) {
		t.Parallel()
		server, clock := redistest.NewClocked(t, start)
		test(t, server.URL(), false, clock)
	})
	t.Run("miniredis", func(t *testing.T) {
		t.Parallel()
		url, clock := redistest.MiniClocked(t, start)
		test(t, url, true, clock)
	})
}

// A running clock is ahead of the real clock, or behind it, by the time that the test gave.
func TestRunningClock(t *testing.T) {
	t.Parallel()
	server, clock := redistest.NewClocked(t, time.Now())
	c, ctx := client(t, server.URL(), false), context.Background()
	now := func() time.Time {
		got, err := c.Do(ctx, c.B().Time().Build()).AsIntSlice()
		if err != nil {
			t.Fatal(err)
		}
		return time.Unix(got[0], got[1]*1000)
	}
	for _, ahead := range []time.Duration{0, time.Hour, -time.Hour} {
		clock.Run(t, ahead)
		first := now()
		if off := first.Sub(time.Now().Add(ahead)); off.Abs() > time.Minute {
			t.Errorf("%v ahead: off by %v", ahead, off)
		}
		for !now().After(first) { // it runs
		}
	}
}

// A cluster takes any key, and another node replaces a master that is killed.
func TestCluster(t *testing.T) {
	t.Parallel()
	cluster, ctx := redistest.NewCluster(t), context.Background()
	option, err := rueidis.ParseURL(cluster.URL())
	if err != nil {
		t.Fatal(err)
	}
	option.DisableCache = true
	c, err := rueidis.NewClient(option)
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(c.Close)
	for _, key := range []string{"a", "b", "c", "d"} {
		if err := c.Do(ctx, c.B().Set().Key(key).Value("v").Build()).Error(); err != nil {
			t.Error(err)
		}
	}
	first := cluster.Master("a")
	first.Kill(t)
	deadline, tick := time.After(time.Minute), time.NewTicker(20*time.Millisecond)
	defer tick.Stop()
	for {
		if next := cluster.Master("a"); next != nil && next != first {
			return
		}
		select {
		case <-tick.C:
		case <-deadline:
			t.Fatal("nobody takes the master's place")
		}
	}
}
