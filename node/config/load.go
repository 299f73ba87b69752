package config

import (
	"bytes"
	"errors"
	"fmt"
	"io"
	"io/fs"
	"os"
	"slices"
	"strings"

	"github.com/pelletier/go-toml/v2"
)

// ErrConfig is wrapped by every error about what is configured, as against a file that cannot be read.
var ErrConfig = errors.New("configuration")

// maxFile bounds config.toml; a consent list of thousands of entries fits.
const maxFile = 1 << 20

// Sources are the places that settings come from.
type Sources struct {
	// File is the path of config.toml. A file that does not exist sets nothing, unless FileRequired.
	File         string
	FileRequired bool
	// Getenv is os.Getenv, or nil for no environment.
	Getenv func(string) string
	// Flags are the flags that were given, by name: "listen", "routes", "limits.connections"; hyphens count as
	// underscores, lists are separated by commas, and "no-tunnel" sets tunnel to false.
	Flags map[string]string
}

// Load reads all sources and checks the outcome. Its errors wrap [ErrConfig] where a person must change something.
func Load(s Sources) (Config, error) {
	c := Default()
	if s.File != "" {
		data, err := readFile(s.File)
		switch {
		case errors.Is(err, fs.ErrNotExist) && !s.FileRequired:
		case err != nil:
			return Config{}, fmt.Errorf("read the configuration: %w", err)
		default:
			if err := c.decode(s.File, data); err != nil {
				return Config{}, err
			}
		}
	}
	if s.Getenv != nil {
		if err := c.applyEnv(s.Getenv); err != nil {
			return Config{}, err
		}
	}
	if err := c.applyFlags(s.Flags); err != nil {
		return Config{}, err
	}
	return c, nil
}

// Parse reads the text of a config.toml over the defaults; name stands in its errors.
func Parse(name string, data []byte) (Config, error) {
	c := Default()
	if err := c.decode(name, data); err != nil {
		return Config{}, err
	}
	return c, nil
}

func readFile(path string) ([]byte, error) {
	f, err := os.Open(path)
	if err != nil {
		return nil, err
	}
	defer f.Close()
	data, err := io.ReadAll(io.LimitReader(f, maxFile+1))
	if err == nil && len(data) > maxFile {
		return nil, fmt.Errorf("%w: %s is larger than %s", ErrConfig, path, Bytes(maxFile))
	}
	return data, err
}

func (c *Config) decode(name string, data []byte) error {
	d := toml.NewDecoder(bytes.NewReader(data)).DisallowUnknownFields()
	if err := d.Decode(c); err != nil {
		return fmt.Errorf("%w: %w", ErrConfig, explain(name, err))
	}
	var named struct {
		Listen *string `toml:"listen"`
	}
	if err := toml.Unmarshal(data, &named); err != nil {
		return fmt.Errorf("%w: %w", ErrConfig, explain(name, err))
	}
	c.ListenSet = named.Listen != nil
	if err := c.check(); err != nil {
		return fmt.Errorf("%w: %w", ErrConfig, locate(name, data, err))
	}
	return nil
}

func (c *Config) applyEnv(getenv func(string) string) error {
	for _, s := range c.settings() {
		value := getenv(s.envName())
		if value == "" {
			continue
		}
		if err := s.set(value); err != nil {
			return fmt.Errorf("%w: %s in the environment: %w", ErrConfig, s.envName(), err)
		}
		c.ListenSet = c.ListenSet || s.name == "listen"
	}
	if err := c.check(); err != nil {
		return fmt.Errorf("%w: in the environment: %w", ErrConfig, err)
	}
	return nil
}

func (c *Config) applyFlags(flags map[string]string) error {
	settings := c.settings()
	names := make([]string, 0, len(flags))
	for name := range flags {
		names = append(names, name)
	}
	slices.Sort(names) // the same error every time where several are wrong
	for _, flag := range names {
		value, name := flags[flag], strings.ReplaceAll(flag, "-", "_")
		if positive, ok := strings.CutPrefix(name, "no_"); ok {
			var err error
			if value, err = invert(value); err != nil {
				return fmt.Errorf("%w: --%s: %w", ErrConfig, flag, err)
			}
			name = positive
		}
		i := slices.IndexFunc(settings, func(s setting) bool { return s.name == name })
		if i < 0 {
			return fmt.Errorf("%w: there is no flag --%s", ErrConfig, flag)
		}
		if err := settings[i].set(value); err != nil {
			return fmt.Errorf("%w: --%s: %w", ErrConfig, flag, err)
		}
		c.ListenSet = c.ListenSet || name == "listen"
	}
	if err := c.check(); err != nil {
		return fmt.Errorf("%w: in the flags: %w", ErrConfig, err)
	}
	return nil
}

func invert(value string) (string, error) {
	switch value {
	case "true":
		return "false", nil
	case "false":
		return "true", nil
	}
	return "", fmt.Errorf("%.40q is neither true nor false", value)
}
