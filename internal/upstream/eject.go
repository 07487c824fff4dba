package upstream

import "context"

// maxBroken is how many attempts in a row may break at an endpoint before it is
// ejected. An endpoint that cannot be dialled is ejected at once.
const maxBroken = 3

// note judges an endpoint by the outcomes of its attempts. An endpoint that fails is
// picked last until a health check finds its service there again, since the address
// may belong to another service by then.
func (e *Endpoint) note(kind Kind) {
	switch kind {
	case NotSent:
	case Broken, Bare:
		if e.broken.Add(1) < maxBroken {
			return
		}
	case Answered, Refused, Unavailable, Exhausted:
		if e.broken.Load() != 0 {
			e.broken.Store(0)
		}
		return
	default:
		return
	}
	e.eject()
}

// eject has the endpoint picked last until it is healthy.
func (e *Endpoint) eject() {
	if e.ejected.CompareAndSwap(false, true) {
		e.pool.log.Debug("endpoint ejected", "service", e.pool.service, "endpoint", e)
		e.pool.spawn(e.readmit)
	}
}

// Strange asks the endpoint for its health, and tells whether another service answers there. Then the endpoint is picked last until its own
// service is back.
func (e *Endpoint) Strange(ctx context.Context) bool {
	strange := e.ailment(ctx) == anotherService
	if strange {
		e.eject()
	}
	return strange
}

// readmit asks for the endpoint's health until it is fit, or gone.
func (e *Endpoint) readmit() {
	for pause := probePause; e.pool.sleep(pause); pause = min(2*pause, longProbePause) {
		if e.gone.Load() {
			return
		}
		ctx, cancel := context.WithTimeout(e.pool.ctx, probeTimeout)
		healthy := e.Healthy(ctx)
		cancel()
		if healthy {
			e.broken.Store(0)
			e.ejected.Store(false)
			e.pool.log.Debug("endpoint readmitted", "service", e.pool.service, "endpoint", e)
			return
		}
		if e.silent.Load() {
			pause = probePause // it answered not long ago, and calls go elsewhere until it is asked
		}
	}
}
