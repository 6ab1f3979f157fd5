package configs

import (
	"reflect"
	"slices"
	"testing"
	"time"
)

func TestDiff_NamesTheKeysThatChanged(t *testing.T) {
	t.Parallel()
	a := DefaultConfig()
	b := a
	b.HTTP.Listen, b.Log.Level, b.Ticker.Period, b.Databases = "x", "debug", time.Hour, []Database{{Name: "x"}}
	if got := Diff(a, b); !slices.Equal(got, []string{"log.level", "http.listen", "ticker.period", "databases"}) {
		t.Errorf("got %q", got)
	}
	if got := Diff(b, b); got != nil {
		t.Errorf("the same: got %q", got)
	}
}

// Every key that needs a restart is kept by KeepFixed, and every other one is taken: a new section is a decision.
func TestKeepFixed_KeepsExactlyWhatNeedsARestart(t *testing.T) {
	t.Parallel()
	current := DefaultConfig()
	var next Config
	fill(reflect.ValueOf(&next).Elem())
	for _, key := range Diff(KeepFixed(current, next), next) {
		if !NeedsRestart(key) {
			t.Errorf("%s is not taken over", key)
		}
	}
	for _, key := range Diff(KeepFixed(current, next), current) {
		if NeedsRestart(key) {
			t.Errorf("%s is not kept", key)
		}
	}
}

// fill sets every field to something that is not its default.
func fill(v reflect.Value) {
	for i := range v.NumField() {
		switch f := v.Field(i); f.Kind() {
		case reflect.Struct:
			fill(f)
		case reflect.String:
			f.SetString("other")
		case reflect.Int, reflect.Int64:
			f.SetInt(77)
		case reflect.Float64:
			f.SetFloat(0.77)
		case reflect.Bool:
			f.SetBool(!reflect.ValueOf(f.Interface()).Bool())
		case reflect.Slice:
			f.Set(reflect.MakeSlice(f.Type(), 1, 1))
		}
	}
}
