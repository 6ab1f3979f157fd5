package walarchive_test

import (
	"bytes"
	"context"
	"io"

	"github.com/skytools/skyd/walarchive"
)

// oneObject is a storage in which every key has the same body.
type oneObject struct {
	walarchive.Storage
	body []byte
}

// Get implements walarchive.Storage.
func (o *oneObject) Get(context.Context, string, int64, int64) (io.ReadCloser, error) {
	return io.NopCloser(bytes.NewReader(o.body)), nil
}
