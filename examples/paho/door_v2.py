"""A door at a gate: reports once, then waits for events. For paho-mqtt 2.x (door.py is for 1.6.1)."""

import json
import os
import time

import paho.mqtt.client as mqtt

HOST = os.environ.get("LAPWING_HOST", "127.0.0.1")
PORT = int(os.environ.get("LAPWING_PORT", 1883))
CLIENT_ID = "door_1"
USER_NAME = "gate"
PASSWORD = "secret"


def on_connect(client, userdata, flags, reason_code, properties):
    print(f"connected: {reason_code}", flush=True)
    client.subscribe("gate/door_1/event", qos=1)


def on_message(client, userdata, message):
    print(message.topic + " " + message.payload.decode(), flush=True)


def on_subscribe(client, userdata, mid, reason_code_list, properties):
    # One filter was asked for, so the list holds one code: the granted QoS, or 128 and above for a refusal.
    print("%d" % reason_code_list[0].value, flush=True)


def on_disconnect(client, userdata, disconnect_flags, reason_code, properties):
    print(f"disconnected: {reason_code}", flush=True)


# Not assigned below: a program need not listen for acknowledgements.
def on_publish(client, userdata, mid, reason_code, properties):
    print("published: %d" % mid, flush=True)


client = mqtt.Client(mqtt.CallbackAPIVersion.VERSION2, CLIENT_ID)
client.username_pw_set(USER_NAME, PASSWORD)
client.on_connect = on_connect
client.on_message = on_message
client.on_subscribe = on_subscribe
client.on_disconnect = on_disconnect

client.connect(HOST, PORT, 120)
payload = json.dumps({"timestamp": int(time.time()), "message": "the door is ready"})
client.publish("topic", payload=payload, qos=1)
try:
    client.loop_forever()
except KeyboardInterrupt:
    client.disconnect()
