package simulation

import "slices"

// database is a server at read committed: statements are atomic, what a transaction writes is seen when it commits, row
// and table locks last until its end, and a crash takes what was not committed and every session with it.
type database struct {
	w      *world
	xid    int64 // the next one
	active []*tx // those with an xid, ascending
	done   map[int64]bool
	locks  map[string][]*hold
	open   []*session
}

// hold is a lock of a transaction, or of a session.
type hold struct {
	by     any
	shared bool
}

// snapshot is PostgreSQL's.
type snapshot struct {
	xmin, xmax int64
	running    []int64
}

// session is a connection.
type session struct {
	db   *database
	m    *machine
	t    *task
	dead bool
	tx   *tx
	// lease: the server ends it when the machine is silent for the time to live.
	lease bool
}

// tx is a transaction; writes are applied by its commit.
type tx struct {
	s      *session
	xid    int64
	writes []func()
}

func newDatabase(w *world) *database {
	return &database{w: w, xid: 100, done: map[int64]bool{}, locks: map[string][]*hold{}}
}

// connect opens a session for a task; the task's body closes it.
func (db *database) connect(t *task) *session {
	t.step()
	s := &session{db: db, m: t.m, t: t}
	db.open = append(db.open, s)
	t.m.open = append(t.m.open, s)
	return s
}

// kill ends a session from the server's side, or because the client is gone.
func (s *session) kill() {
	if s.dead {
		return
	}
	s.end(false)
	s.dead = true
	for key := range s.db.locks {
		s.db.unlock(key, s)
	}
	same := func(o *session) bool { return o == s }
	s.db.open = slices.DeleteFunc(s.db.open, same)
	s.m.open = slices.DeleteFunc(s.m.open, same)
}

// crash ends all sessions: what was committed stays.
func (db *database) crash() {
	for len(db.open) > 0 {
		db.open[0].kill()
	}
}

// do is a statement: everything may happen before it, and between it and its answer.
func (s *session) do(f func()) {
	s.t.step()
	s.alive()
	f()
	if s.t.w.chance(4) {
		s.t.step()
		s.alive()
	}
}

func (s *session) alive() {
	if s.dead {
		panic(lost{})
	}
}

// begin opens a transaction.
func (s *session) begin() *tx {
	s.alive()
	s.tx = &tx{s: s}
	return s.tx
}

// commit is a statement.
func (s *session) commit() {
	s.do(func() { s.end(true) })
}

// rollback needs no answer.
func (s *session) rollback() {
	s.alive()
	s.end(false)
}

func (s *session) end(commit bool) {
	x := s.tx
	if x == nil {
		return
	}
	s.tx = nil
	db := s.db
	db.active = slices.DeleteFunc(db.active, func(o *tx) bool { return o == x })
	if commit {
		db.done[x.xid] = true
		for _, write := range x.writes {
			write()
		}
	}
	for key := range db.locks {
		db.unlock(key, x)
	}
}

// id is txid_current().
func (x *tx) id() int64 {
	if x.xid == 0 {
		x.xid = x.s.db.xid
		x.s.db.xid++
		x.s.db.active = append(x.s.db.active, x)
	}
	return x.xid
}

// write is applied at commit.
func (x *tx) write(f func()) {
	x.s.alive()
	x.id()
	x.writes = append(x.writes, f)
}

func (db *database) snapshot() snapshot {
	s := snapshot{xmin: db.xid, xmax: db.xid}
	for _, x := range db.active {
		s.running = append(s.running, x.xid)
		s.xmin = min(s.xmin, x.xid)
	}
	return s
}

// sees tells whether a transaction had committed when the snapshot was taken.
func (db *database) sees(s *snapshot, xid int64) bool {
	return xid < s.xmax && db.done[xid] && !slices.Contains(s.running, xid)
}

// tryLock takes a lock if nobody is in the way. by is a *tx or a *session.
func (db *database) tryLock(by any, key string, shared bool) bool {
	var own *hold
	for _, h := range db.locks[key] {
		if h.by == by {
			own = h
		} else if !shared || !h.shared {
			return false
		}
	}
	if own == nil {
		own = &hold{by: by, shared: shared}
		db.locks[key] = append(db.locks[key], own)
	}
	own.shared = own.shared && shared
	return true
}

func (db *database) unlock(key string, by any) {
	db.locks[key] = slices.DeleteFunc(db.locks[key], func(h *hold) bool { return h.by == by })
	if len(db.locks[key]) == 0 {
		delete(db.locks, key)
	}
}

// lock waits for a row; what was read before may have changed then.
func (x *tx) lock(key string, shared bool) {
	for {
		x.s.alive()
		if x.s.db.tryLock(x, key, shared) {
			return
		}
		x.s.t.sleep(1)
	}
}
