package client_test

import (
	"context"
	"errors"
	"fmt"
	"io"
	"log"
	"os"

	"culvert/node/client"
)

// A program that prints a file on a printer behind another router.
func Example() {
	ctx := context.Background()
	c, err := client.Dial(ctx, "")
	if errors.Is(err, client.ErrNoDaemon) {
		log.Fatal("the culvert agent does not run on this machine")
	}
	if err != nil {
		log.Fatal(err)
	}
	defer c.Close()

	printer, err := c.DialDevice(ctx, "printer-2@acme", "9100")
	if err != nil {
		log.Fatal(err)
	}
	defer printer.Close()
	page, err := os.Open("page.pcl")
	if err != nil {
		log.Fatal(err)
	}
	defer page.Close()
	if _, err := io.Copy(printer, page); err != nil {
		log.Fatal(err)
	}
}

// A local address for software that connects by itself, the same again after a restart.
func ExampleClient_Open() {
	ctx := context.Background()
	c, err := client.Dial(ctx, "")
	if err != nil {
		log.Fatal(err)
	}
	defer c.Close()

	t, err := c.Open(ctx, client.OpenRequest{Device: "printer-2", Port: "631", Persist: true})
	switch {
	case errors.Is(err, client.ErrDeviceTimeout):
		log.Fatal("the printer is off")
	case errors.Is(err, client.ErrAmbiguous):
		log.Fatal("name the domain as well: printer-2@acme")
	case err != nil:
		log.Fatal(err)
	}
	fmt.Printf("ipp://%s/ipp/print by way of %s\n", t.Local, t.Route)
}

// A program that follows what happens.
func ExampleClient_Events() {
	ctx := context.Background()
	c, err := client.Dial(ctx, "")
	if err != nil {
		log.Fatal(err)
	}
	defer c.Close()

	events, err := c.Events(ctx)
	if err != nil {
		log.Fatal(err)
	}
	for ev, err := range events {
		if err != nil {
			log.Fatal(err)
		}
		switch ev.Type {
		case client.DeviceLost:
			fmt.Println(ev.Device, "is gone")
		case client.Dropped:
			fmt.Println("ask again for the devices:", ev.Dropped, "events were missed")
		}
	}
}

// What an error says, and how a program tells it from others.
func ExampleError() {
	var err error = &client.Error{Code: "not_found", Message: `there is no device "scanner"`, Hint: "see culvert devices"}
	fmt.Println(err)
	fmt.Println(errors.Is(err, client.ErrNotFound), errors.Is(err, client.ErrLimit))
	// Output:
	// there is no device "scanner": see culvert devices
	// true false
}
