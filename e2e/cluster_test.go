package e2e

import (
	"testing"

	momv1 "holdline/gen/mom/v1"
	"holdline/internal/redistest"
)

// What was stored before a master died is answered once its replica has its
// place: by MOMs on a Redis Cluster, with a queue in several of its slots, and by
// MOMs that Sentinels tell where the master is.
func TestRedisFailover(t *testing.T) {
	t.Parallel()
	t.Run("cluster", func(t *testing.T) {
		t.Parallel()
		cluster := redistest.NewCluster(t)
		h := deployAs(t, layout{moms: 2, route: ";shards=4", elsewhere: []string{"--redis", cluster.URL(), "--redis-cluster"}})
		failOver(t, h, func() {
			cluster.Replicate(t)
			cluster.Nodes[0].Kill(t)
		})
	})
	t.Run("sentinel", func(t *testing.T) {
		t.Parallel()
		servers := redistest.NewSentinel(t)
		h := deployAs(t, layout{moms: 2, elsewhere: []string{"--redis", servers.URL(), "--redis-sentinel-master", redistest.SentinelMaster}})
		failOver(t, h, func() {
			servers.Master.Replicate(t)
			servers.Master.Kill(t)
		})
	})
}

func failOver(t *testing.T, h *house, kill func()) {
	t.Helper()
	const tasks = 50
	reads, posts := h.async(t, "Read", tasks), h.async(t, "Post", tasks)
	kill()
	var l ledger
	run(t, l.serve(t, h.ledger))
	awaitTasks(t, h.momAddr[0], 2*tasks, momv1.TaskState_TASK_STATE_SUCCEEDED)
	h.checkAnswers(t, reads)
	h.checkAnswers(t, posts)
	if got := l.posted(); got != tasks {
		t.Errorf("Post ran %d times, want %d", got, tasks)
	}
}
