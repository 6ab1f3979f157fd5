package configs

import (
	"bytes"
	"encoding/json"
	"maps"
	"reflect"
	"time"

	"github.com/skytools/skyd/pgq"
)

// Masked returns a copy that can be shown: secrets are ***.
func (c Config) Masked() Config {
	shown := make([]Database, len(c.Databases))
	for i, d := range c.Databases {
		d.DSN, d.LeaseDSN = pgq.MaskDSN(d.DSN), pgq.MaskDSN(d.LeaseDSN)
		if d.Password != "" {
			d.Password = "***"
		}
		shown[i] = d
	}
	c.Databases = shown
	var consumers []Consumer
	for _, u := range c.Consumers {
		if u.Handler.Secret != "" {
			u.Handler.Secret = "***"
		}
		u.Handler.Headers = maps.Clone(u.Handler.Headers)
		for name := range u.Handler.Headers {
			u.Handler.Headers[name] = "***" // such as Authorization
		}
		consumers = append(consumers, u)
	}
	c.Consumers = consumers
	return c
}

// MarshalJSON writes the masked configuration under its own keys, in the order of the reference; durations are texts as
// a configuration file takes them.
func (c Config) MarshalJSON() ([]byte, error) { return ordered(reflect.ValueOf(c.Masked())) }

func ordered(v reflect.Value) ([]byte, error) {
	switch {
	case v.Type() == durationType:
		return json.Marshal(DurationText(time.Duration(v.Int())))
	case v.Kind() == reflect.Struct:
		var b bytes.Buffer
		b.WriteByte('{')
		for i := range v.NumField() {
			if v.Field(i).Kind() != reflect.Struct && v.Field(i).IsZero() && isOptional(v.Type().Field(i)) {
				continue
			}
			if b.Len() > 1 {
				b.WriteByte(',')
			}
			key, _ := json.Marshal(v.Type().Field(i).Tag.Get("koanf"))
			value, err := ordered(v.Field(i))
			if err != nil {
				return nil, err
			}
			b.Write(key)
			b.WriteByte(':')
			b.Write(value)
		}
		b.WriteByte('}')
		return b.Bytes(), nil
	case v.Kind() == reflect.Slice:
		var b bytes.Buffer
		b.WriteByte('[')
		for i := range v.Len() {
			if i > 0 {
				b.WriteByte(',')
			}
			value, err := ordered(v.Index(i))
			if err != nil {
				return nil, err
			}
			b.Write(value)
		}
		b.WriteByte(']')
		return b.Bytes(), nil
	default:
		return json.Marshal(v.Interface())
	}
}

// isOptional reports whether an empty value of the field says nothing.
func isOptional(f reflect.StructField) bool {
	return f.Type.Kind() == reflect.String || f.Type.Kind() == reflect.Slice || f.Type.Kind() == reflect.Map
}

// DurationText writes a duration without useless zero units: 2m instead of 2m0s.
func DurationText(d time.Duration) string {
	s := d.String()
	for _, zero := range []struct{ tail, keep string }{{"m0s", "m"}, {"h0m", "h"}} {
		if len(s) > len(zero.tail) && s[len(s)-len(zero.tail):] == zero.tail {
			s = s[:len(s)-len(zero.tail)] + zero.keep
		}
	}
	return s
}
