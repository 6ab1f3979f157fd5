package runtime

import (
	"net/url"
	"strings"

	"github.com/skytools/skyd/configs"
)

// ReplicationDSN is the address of a configured database together with its password, for connections that do not come
// from a pool. It must not be shown.
func ReplicationDSN(d configs.Database) (string, error) {
	password := d.Password
	if password == "" && d.PasswordFile != "" {
		var err error
		if password, err = firstLine(d.PasswordFile); err != nil {
			return "", err
		}
	}
	if password == "" {
		return d.DSN, nil
	}
	if u, err := url.Parse(d.DSN); err == nil && (u.Scheme == "postgres" || u.Scheme == "postgresql") {
		name := ""
		if u.User != nil {
			name = u.User.Username()
		}
		u.User = url.UserPassword(name, password)
		return u.String(), nil
	}
	return d.DSN + " password='" + strings.NewReplacer(`\`, `\\`, `'`, `\'`).Replace(password) + "'", nil
}
