"""LSTM: A Search Space Odyssey (Greff et al., 2017): LSTM, its variants with peepholes and coupled gates, and GRU."""

from paperzoo.papers.lstm.cells import GRU, LSTM, Cell, CoupledLSTM, PeepholeLSTM

__all__ = ["GRU", "LSTM", "Cell", "CoupledLSTM", "PeepholeLSTM"]
