"""LSTM: A Search Space Odyssey (Greff et al., 2017): LSTM, its variants with peepholes and coupled gates, and GRU."""

from paperzoo.networks.official import load_exactly as load_official
from paperzoo.papers.lstm.cells import GRU, LSTM, Cell, CoupledLSTM, PeepholeLSTM
from paperzoo.papers.lstm.network import CharacterNetwork, lstm_char

__all__ = [
    "GRU",
    "LSTM",
    "Cell",
    "CharacterNetwork",
    "CoupledLSTM",
    "PeepholeLSTM",
    "load_official",
    "lstm_char",
]
