package walarchive

import (
	"bytes"
	"context"
	"errors"
	"fmt"
)

// putHistory stores a history file: the first writer wins, the same again is fine. ErrConflict.
func (r *Repo) putHistory(ctx context.Context, system uint64, name string, text []byte) error {
	key := r.HistoryKey(system, name)
	err := r.Put(ctx, key, bytes.NewReader(text), PutOptions{Size: int64(len(text))})
	if !errors.Is(err, ErrExists) {
		return err
	}
	there, err := r.ReadSmall(ctx, key)
	if err == nil && !bytes.Equal(there, text) {
		err = fmt.Errorf("%s: %w", key, ErrConflict)
	}
	return err
}
