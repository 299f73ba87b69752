package client_test

import (
	"context"
	"errors"
	"fmt"
	"io"
	"log"
	"os"
	"time"

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

// A program that asks a device by datagrams. They may be lost, so it waits no longer than it likes.
func ExampleClient_DialDevice_udp() {
	ctx := context.Background()
	c, err := client.Dial(ctx, "")
	if err != nil {
		log.Fatal(err)
	}
	defer c.Close()

	meter, err := c.DialDevice(ctx, "meter-2", "161/udp")
	if err != nil {
		log.Fatal(err)
	}
	defer meter.Close()
	if _, err := meter.Write([]byte("a request")); err != nil { // one datagram
		log.Fatal(err)
	}
	if err := meter.SetReadDeadline(time.Now().Add(2 * time.Second)); err != nil {
		log.Fatal(err)
	}
	answer := make([]byte, 1500)
	n, err := meter.Read(answer)
	if err != nil {
		log.Fatal(err)
	}
	fmt.Printf("%x\n", answer[:n])
}

// Why a tunnel goes by its route: everything that was tried, in the order of its start.
func ExampleClient_Tunnels() {
	ctx := context.Background()
	c, err := client.Dial(ctx, "")
	if err != nil {
		log.Fatal(err)
	}
	defer c.Close()

	tunnels, err := c.Tunnels(ctx)
	if err != nil {
		log.Fatal(err)
	}
	for _, t := range tunnels {
		fmt.Printf("%s port %s goes by %s\n", t.Device, t.Port, t.Route)
		for _, a := range t.Receipt.Attempts {
			why := "worked"
			if a.Error != "" {
				why = a.Error
			}
			fmt.Printf("  %s after %.0f ms: %s\n", a.Route, a.AfterMs, why)
		}
	}
}

// What to expect of this network, before a user asks why it is slow.
func ExampleClient_Netcheck() {
	ctx := context.Background()
	c, err := client.Dial(ctx, "")
	if err != nil {
		log.Fatal(err)
	}
	defer c.Close()

	n, err := c.Netcheck(ctx)
	if err != nil {
		log.Fatal(err)
	}
	fmt.Printf("%s; UDP gets out: %s; messages travel by %s\n", n.Summary, n.UDP, n.Carrier)
	for _, r := range n.Routes {
		fmt.Printf("%s: %s, %s\n", r.Route, r.Expect, r.Why)
	}
	for _, a := range n.Advice {
		fmt.Println("to do better:", a)
	}
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
