package configs

import (
	"context"
	"fmt"
	"os"
	"reflect"
	"strings"

	"github.com/skytools/skyd/pgq"
)

// doubts are warnings about a configuration that is right: what works and is not safe, or will not work for long.
func doubts(ctx context.Context, c Config) (warnings []string) {
	for _, d := range c.Databases {
		if d.PasswordFile != "" {
			info, err := os.Stat(d.PasswordFile)
			switch {
			case err != nil:
				warnings = append(warnings, fmt.Sprintf("database %s: password_file %s cannot be read: %s", d.Name, d.PasswordFile, cause(err)))
			case info.Mode().Perm()&0o044 != 0:
				warnings = append(warnings, fmt.Sprintf("database %s: password_file %s can be read by others (mode %#o); chmod 0600 or 0400",
					d.Name, d.PasswordFile, info.Mode().Perm()))
			}
		}
		db, err := pgq.Open(ctx, d.DSN)
		if err != nil {
			continue // told as a fault
		}
		host, transport := db.Config().ConnConfig.Host, db.Transport()
		db.Close()
		if transport != "unix" && transport != "verified" && !isLoopback(host) {
			warnings = append(warnings, fmt.Sprintf("database %s: the connection to %s is %s; set sslmode=verify-full, so that nobody can listen or pretend to be it",
				d.Name, host, transportText(transport)))
		}
	}
	return warnings
}

// transportText says how a connection is protected.
func transportText(transport string) string {
	switch transport {
	case "optional":
		return "encrypted only if the server likes to"
	case "encrypted":
		return "encrypted, but the server is not verified"
	case "authority":
		return "encrypted, but the name of the server is not verified"
	}
	return "not encrypted"
}

// variables lists the environment variables of all keys that are not in a list.
func variables() (names []string) {
	var walk func(section reflect.Type, prefix string)
	walk = func(section reflect.Type, prefix string) {
		for f := range section.Fields() {
			name := prefix + strings.ToUpper(f.Tag.Get("koanf"))
			switch {
			case f.Type.Kind() == reflect.Struct:
				walk(f.Type, name+"__")
			case f.Type.Kind() != reflect.Slice:
				names = append(names, name)
			}
		}
	}
	walk(reflect.TypeFor[Config](), envPrefix)
	return names
}
