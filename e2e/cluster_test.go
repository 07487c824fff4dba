package e2e

import (
	"testing"

	momv1 "holdline/gen/mom/v1"
	"holdline/internal/redistest"
)

// MOMs on a Redis Cluster, with a queue in several of its slots: what was stored
// before a master died is answered after its replica has taken over.
func TestRedisCluster(t *testing.T) {
	t.Parallel()
	cluster := redistest.NewCluster(t)
	h := deployOn(t, 2, ";shards=4", "--redis", cluster.URL(), "--redis-cluster")
	const tasks = 50
	reads, posts := h.async(t, "Read", tasks), h.async(t, "Post", tasks)
	cluster.Replicate(t)
	cluster.Nodes[0].Kill(t)
	var l ledger
	run(t, l.serve(t, h.ledger))
	awaitTasks(t, h.momAddr[0], 2*tasks, momv1.TaskState_TASK_STATE_SUCCEEDED)
	h.checkAnswers(t, reads)
	h.checkAnswers(t, posts)
	if got := l.posted(); got != tasks {
		t.Errorf("Post ran %d times, want %d", got, tasks)
	}
}
