"""What can be computed: networks and yardsticks that rank the catalogue."""
