package configs

import (
	"reflect"
	"slices"
	"strings"
)

// Diff lists the keys in which two configurations differ, in the order of the reference; a list counts as one key.
func Diff(a, b Config) []string {
	return diff(reflect.ValueOf(a), reflect.ValueOf(b), "")
}

func diff(a, b reflect.Value, prefix string) (keys []string) {
	for i := range a.NumField() {
		path := joinPath(prefix, a.Type().Field(i).Tag.Get("koanf"))
		switch {
		case a.Field(i).Kind() == reflect.Struct:
			keys = append(keys, diff(a.Field(i), b.Field(i), path)...)
		case !reflect.DeepEqual(a.Field(i).Interface(), b.Field(i).Interface()):
			keys = append(keys, path)
		}
	}
	return keys
}

// restartSections are the sections and keys at the top that a running daemon cannot change.
var restartSections = []string{"instance", "http", "control", "telemetry"}

// NeedsRestart reports whether a change of the key takes effect only when the daemon starts again.
func NeedsRestart(key string) bool {
	section, _, _ := strings.Cut(key, ".")
	return slices.Contains(restartSections, section)
}

// KeepFixed returns next with everything that needs a restart as it is in current: what a reload can put into force.
func KeepFixed(current, next Config) Config {
	next.Instance, next.HTTP, next.Control, next.Telemetry = current.Instance, current.HTTP, current.Control, current.Telemetry
	return next
}
