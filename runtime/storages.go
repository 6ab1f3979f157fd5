package runtime

import (
	"context"
	"fmt"
	"net/url"
	"slices"
	"strings"

	"github.com/skytools/skyd/walarchive"
	"github.com/skytools/skyd/walarchive/file"
	"github.com/skytools/skyd/walarchive/s3"
	"github.com/skytools/skyd/walarchive/sftp"
)

// storages are the drivers by the scheme of their URL.
var storages = map[string]func(context.Context, *url.URL) (walarchive.Storage, error){
	"file": file.Open,
	"s3":   s3.Open,
	"sftp": sftp.Open,
}

// OpenStorage opens the storage that a URL names; one behind a network with attempts and deadlines.
func OpenStorage(ctx context.Context, text string) (walarchive.Storage, error) {
	u, err := url.Parse(text)
	if err != nil {
		return nil, fmt.Errorf("storage: it is not a URL like file:///directory")
	}
	open, ok := storages[u.Scheme]
	if !ok {
		var known []string
		for scheme := range storages {
			known = append(known, scheme+"://")
		}
		slices.Sort(known)
		return nil, fmt.Errorf("storage %s: the URL must begin with one of %s", u.Redacted(), strings.Join(known, ", "))
	}
	s, err := open(ctx, u)
	if err != nil || u.Scheme == "file" { // a disk does not get better by asking again
		return s, err
	}
	return walarchive.Steady(s, walarchive.StallLimit), nil
}
