"""How processes start: activation, the launcher's meter, the agent, assembly. Only this folder knows both sides."""
