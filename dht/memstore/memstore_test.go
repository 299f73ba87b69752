package memstore_test

import (
	"testing"

	"culvert/dht/memstore"
	"culvert/dht/storetest"
)

func TestStore(t *testing.T) {
	storetest.Run(t, func(t *testing.T) storetest.Opened {
		s := storetest.Opened{Store: memstore.New()}
		s.Reopen = func() storetest.Opened { return s }
		return s
	})
}
