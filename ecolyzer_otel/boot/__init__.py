"""How processes start: activation, the launcher's meter, agent, assembly. This folder alone imports both sides."""
