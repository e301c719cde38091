"""What browsers load from us: the files of the widget, and our own two pages with it."""
