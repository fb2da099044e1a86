"""The host's side of an exporter: its sockets, its signals, and what is served behind them."""
