package bench

import (
	"os"
	"testing"

	"github.com/skytools/skyd/internal/pgtest"
)

func TestMain(m *testing.M) { os.Exit(pgtest.Main(m)) }
