"""One room per paper. Rooms are found by name; this file imports none of them."""
