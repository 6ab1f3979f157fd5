package runtime

import (
	"strings"
	"sync"

	"github.com/asynkron/protoactor-go/actor"

	"github.com/skytools/skyd/actors"
)

// deadLetters counts messages to actors that are gone, by the kind of the actor.
type deadLetters struct {
	mu     sync.Mutex
	counts map[string]int64
}

// watch counts the dead letters of a system. The handler runs in the goroutine of whoever sent the message: it counts
// and does nothing else.
func (l *deadLetters) watch(system *actor.ActorSystem) {
	system.EventStream.Subscribe(func(event any) {
		letter, ok := event.(*actor.DeadLetterEvent)
		if !ok || letter.PID == nil {
			return
		}
		switch letter.Message.(type) {
		case actor.SystemMessage, actor.AutoReceiveMessage:
			return // the library's own goodbyes
		}
		kind := "other"
		parts := strings.Split(letter.PID.GetId(), "/")
		for _, k := range actors.Kinds() {
			if parts[len(parts)-1] == k || (len(parts) > 1 && parts[len(parts)-2] == k) {
				kind = k
			}
		}
		l.mu.Lock()
		defer l.mu.Unlock()
		if l.counts == nil {
			l.counts = map[string]int64{}
		}
		l.counts[kind]++
	})
}

// snapshot copies the counts.
func (l *deadLetters) snapshot() map[string]int64 {
	l.mu.Lock()
	defer l.mu.Unlock()
	copied := make(map[string]int64, len(l.counts))
	for k, n := range l.counts {
		copied[k] = n
	}
	return copied
}
